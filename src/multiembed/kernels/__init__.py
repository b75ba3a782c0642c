"""The operations of models and tables: in plain torch, and in fast forms of their own."""
