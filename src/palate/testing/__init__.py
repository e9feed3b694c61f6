"""Helpers for the tests of palate and of what builds on it."""
