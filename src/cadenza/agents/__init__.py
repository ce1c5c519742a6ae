"""What an agent is: a card and something that can be called."""
