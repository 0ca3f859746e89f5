"""From a run to its users.

serve/  the web server: an API, and a page
"""
