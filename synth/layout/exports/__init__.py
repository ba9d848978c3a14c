"""Layout labels as others read them: a kind a form. All of them have their pictures and records from `reading`."""
