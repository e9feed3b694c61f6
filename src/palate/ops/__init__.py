"""Pure tensor functions: the one home of each formula."""
