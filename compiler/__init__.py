"""The roof: importer, pipelines, driver, reports and the command line."""
