"""Which kernel a call gets, and what happens when it fails: rules, decisions, the Router, what is counted."""
