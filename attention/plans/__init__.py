"""Plans: measure candidates in a running model, choose the cheapest within a budget, save and load it."""
