# Completion of berth for bash; in ~/.bashrc:  source <(berth completion bash)

_berth() {
    local line=${COMP_LINE:0:COMP_POINT} candidate directive=:none
    local word=${line##*[[:space:]]}
    # bash itself takes the part behind = and : for the word to replace.
    local kept=${word%"${word##*[=:]}"}
    COMPREPLY=()
    while IFS= read -r candidate; do
        case $candidate in
        :*) directive=$candidate ;;
        *)
            candidate=${candidate%%$'\t'*}
            COMPREPLY+=("${candidate#"$kept"}")
            ;;
        esac
    done < <("${COMP_WORDS[0]}" __complete --line "$line" 2>/dev/null)
    case $directive in
    :files) directive=-f ;;
    :directories) directive=-d ;;
    :nospace) compopt -o nospace 2>/dev/null; return ;;
    *) return ;;
    esac
    compopt -o filenames 2>/dev/null
    while IFS= read -r candidate; do
        COMPREPLY+=("$candidate")
    done < <(compgen "$directive" -- "${word##*=}")
}
complete -F _berth berth
