"""Numbers -> pages people look at."""
