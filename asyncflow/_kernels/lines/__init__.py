"""Where records of a text end."""
