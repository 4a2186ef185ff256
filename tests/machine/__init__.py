"""Programs, modules and models of the machine that several tests share."""
