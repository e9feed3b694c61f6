"""User and item encoders."""
