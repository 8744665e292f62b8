"""Phones and boards: how they are reached (adb, ssh), what they are, and what they measure."""
