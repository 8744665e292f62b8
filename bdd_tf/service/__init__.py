"""HTTP service for the detector: a web page for dropping images, and a JSON API. Needs the extra ``serve``."""
