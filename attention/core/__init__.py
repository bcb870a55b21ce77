"""What everything stands on: a call, where it comes from, the video's tokens, layouts, exact attention."""
