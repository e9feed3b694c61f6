"""A fitted model as a folder: JSON, safetensors and parquet, written at once, read without code."""

from palate.persistence.reading import load
from palate.persistence.writing import FILES, FORMAT, save

__all__ = ["FILES", "FORMAT", "load", "save"]
