"""The Deitos model server: llama.cpp behind keys, limits and two interfaces."""
