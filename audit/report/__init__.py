"""The report: the audit document of a finished run, and HTML, JUnit, SARIF, Markdown and a model card made of it."""
