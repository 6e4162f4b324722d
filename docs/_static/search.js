// What the search shows of a page is its text: not the buttons above it, nor the contents for print.
document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return;
  const textOf = Search.htmlToText;
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    const chrome = ".bd-header-article, #jb-print-docs-body, a.source";
    page.querySelectorAll(chrome).forEach((part) => part.remove());
    return textOf(page.documentElement.outerHTML, anchor);
  };
});
