"""A recommender behind HTTP: FastAPI, one process, an event log that survives kill -9."""
