"""Plain operations: paths and settings in, files out. (Not Dagster's ``@op``: nothing in here knows Dagster.)"""
