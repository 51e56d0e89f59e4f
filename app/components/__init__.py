"""What pages are made of: functions from data to a figure, a table or a form."""
