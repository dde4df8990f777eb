"""Analysis of expert recordings, and the documents in which the steps store it for the page."""
