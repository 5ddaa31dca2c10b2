"""Dagster's nouns. Factories that receive the edges of dvc.yaml; no arithmetic in here."""
