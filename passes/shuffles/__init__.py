"""How shuffles disappear: what each operation allows, where each channel comes from, in which order to keep it."""
