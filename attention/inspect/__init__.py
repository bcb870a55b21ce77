"""What is shown: reports, maps, what is known of a model before it runs."""
