"""What can be seen: plans and facts -> answers for people. Pure: text in, text out."""
