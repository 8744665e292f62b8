"""Reach phones and boards by adb and ssh, and run programs there."""
