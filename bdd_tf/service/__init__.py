"""The detector as a small HTTP service: one page to drop an image on, and an API. Extra: ``serve``."""
