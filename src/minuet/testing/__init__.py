"""A kit for users and for authors of stores: what is needed to test workflows and backends. Shipped."""
