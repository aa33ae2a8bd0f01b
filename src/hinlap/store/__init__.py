"""The only room that knows SQL. One SQLite file in the project folder holds everything."""
