"""The rules as plain functions and values: nothing here knows a broker, a database or HTTP."""
