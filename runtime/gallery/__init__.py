"""Who is known: the file, its encryption and log, search, export and import."""
