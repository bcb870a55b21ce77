"""Widgets and sockets that several nodes share."""
