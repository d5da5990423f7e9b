"""What edgeface prints for programs, as types from which the JSON Schema files in `json/` are made."""
