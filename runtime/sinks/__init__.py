"""Places where events go besides the terminal: files, web servers, MQTT brokers, commands."""
