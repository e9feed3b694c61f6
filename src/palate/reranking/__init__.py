"""The second stage: candidates of the first are put in order by their content, for each user."""
