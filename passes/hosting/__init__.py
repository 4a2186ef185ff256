"""What `outline-host` decides by: which operations the host runs."""
