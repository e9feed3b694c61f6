"""Parts of compare.py: the split, the models of palate and of others, the report."""
