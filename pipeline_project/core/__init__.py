"""The ground: what an item, a resource, a selection and a decision mean. Pure: no SQL, no clock, no Dagster, no environment."""
