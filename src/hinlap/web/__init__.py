"""The workbench: pages for people."""
