"""Our models beside others' on the same rows: what each is worth, and what it takes."""
