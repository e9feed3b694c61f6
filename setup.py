"""The part of the build that pyproject.toml cannot say."""

from setuptools import setup

setup()
