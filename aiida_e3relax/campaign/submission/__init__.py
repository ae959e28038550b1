"""What submits the processes of a campaign, and looks after them."""
