"""The npm package and the page that runs without a service."""
