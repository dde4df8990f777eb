"""What the experts' comparison found: the records that the steps write and the page shows."""
