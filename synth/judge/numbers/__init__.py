"""Numbers of sets of features, captions and pictures: functions of arrays, in blocks of rows. docs/judge.md says what each tells."""
