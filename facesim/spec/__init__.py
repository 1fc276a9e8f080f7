"""What is to be run, as data: frozen, validated, JSON in and out. The ground floor: it imports no other part."""
