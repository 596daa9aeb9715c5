"""Models as users have them, for the table of routes and its tests."""
