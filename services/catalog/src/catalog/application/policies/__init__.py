"""Policies: what they may say, and what happens when they meet an event."""
