"""A run -> predictions elsewhere: raw rows scored, bundles, embeddings, a model card."""
