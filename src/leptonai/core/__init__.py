"""The nouns, states, errors, ports and settings that every other part of leptonai shares."""
