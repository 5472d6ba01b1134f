// React 17 as Panel ships it for its templates: two classic scripts that put React and ReactDOM on the window.
// The paths lead from our folder below static/extensions/ to Panel's.
import "../panel/bundled/react@17/umd/react.production.min.js"
import "../panel/bundled/react-dom@17/umd/react-dom.production.min.js"

export const {React, ReactDOM} = window
export const h = React.createElement
export const {useState, useEffect, useLayoutEffect, useMemo, useRef, memo, Fragment} = React
