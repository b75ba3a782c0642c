"""The encoded dataset on disk: its schema, its shards, its batches."""
