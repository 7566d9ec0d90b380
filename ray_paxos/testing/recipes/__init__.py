"""Recipes as simulated clients play them, each with the rules that its clients must find kept."""
